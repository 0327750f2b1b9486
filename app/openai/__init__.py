"""OpenAI's dialect: requests in, chunks, answers and errors out."""
