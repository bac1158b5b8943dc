"""What a search leaves behind: trials, the files that tell of them, and what is derived from both."""
