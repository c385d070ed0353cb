"""The real parts that the tests run against, one module each; standard library only."""
