"""What a step is at each of its stages, to look at: text, a page, a drawing."""
