"""OpenAPI description of this gateway, made from its routes and types, and a page of it."""
