"""The demo: the whole product on embedded parts, on a real trace."""
