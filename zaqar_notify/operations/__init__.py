"""Starting, watching and examining processes."""
