"""What a job is: its states, its transitions, its record. No I/O."""
