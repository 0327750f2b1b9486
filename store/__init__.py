"""Storage besides Redis: pictures and files for clients, and the large parts of jobs."""
