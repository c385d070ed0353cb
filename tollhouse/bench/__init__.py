"""`tollhouse bench`: what the whole way of an event costs on this machine, beside a ceiling and a plain way."""
