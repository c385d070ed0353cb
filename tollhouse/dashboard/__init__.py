"""The pages for people, served by the API: no build step, nothing loaded from elsewhere."""
