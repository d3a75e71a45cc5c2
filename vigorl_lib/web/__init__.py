"""Three small sites, and agents that work on them in a real browser as in VisualWebArena."""
