"""Where jobs live: implementations of the JobStore contract."""
