"""The ground floor: errors, files, keyed draws, progress, recipes. Imports nothing from the rooms above."""
