"""What do commands say on a terminal in each language? A file beside this one for each file of `words/`."""
