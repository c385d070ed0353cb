"""Reading YAML and JSON documents without losing a digit: fractions become Decimals, times stay text."""

import json
import re
from decimal import Decimal
from typing import Any

import yaml

from tollhouse.errors import UserError


class _ExactLoader(yaml.SafeLoader):
    """YAML's safe loader, with exact decimals and without guessing at dates."""


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node).replace("_", "")
    try:
        return Decimal(text)
    except ArithmeticError:
        return text


_ExactLoader.add_constructor("tag:yaml.org,2002:float", _decimal)
_ExactLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_document(text: str, name: str) -> Any:
    """JSON or YAML as plain data; UserError with the line of the first fault."""
    if re.match(r"\s*[\[{]", text):
        try:
            return json.loads(text, parse_float=Decimal)
        except json.JSONDecodeError as error:
            json_error = f"{name}:{error.lineno}: {error.msg}"
        except RecursionError:
            raise UserError(f"{name}: nested too deeply") from None
    else:
        json_error = ""
    try:
        return yaml.load(text, Loader=_ExactLoader)  # noqa: S506 - a subclass of the safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = getattr(error, "problem", None) or "not YAML"
        raise UserError(json_error or f"{where}: {problem}") from None
    except RecursionError:
        raise UserError(f"{name}: nested too deeply") from None
