"""The page at `/`: an editor with ghost text and a chat, to try a served model on without an editor."""
