"""Independent calculations that the tests compare the services with. Plain Python, nothing of the project."""
