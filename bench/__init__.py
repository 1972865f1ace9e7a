"""What the README claims about speed, measured with one command: make bench."""
