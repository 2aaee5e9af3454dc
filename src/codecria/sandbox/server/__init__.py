"""What runs inside the isolation: the fork server and the two halves of each program.

Standard library only, relative imports only: the folder is started as a package of its own by an interpreter without
site packages (`python -s -P -S`), where codecria does not exist.
"""
