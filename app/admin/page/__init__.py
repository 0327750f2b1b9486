"""The page of operators: views rendered from the board, live, and a form for each action."""
