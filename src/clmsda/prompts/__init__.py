"""Prompts: where a person says that a tumor is.

`kinds` are they, `parsing` reads them from text, `records` from JSON, `placement` says whether a tumor can be there,
and `request` gathers what is said about one lesion.
"""

from clmsda.prompts.kinds import Box, Correction, Inside, Outside, Point, Prompt, PromptError, RecistLine
from clmsda.prompts.parsing import parse, parse_correction
from clmsda.prompts.placement import check_in_image, check_inside
from clmsda.prompts.records import from_json, to_json
from clmsda.prompts.request import Request, check, check_near, requests

__all__ = [
    "Box",
    "Correction",
    "Inside",
    "Outside",
    "Point",
    "Prompt",
    "PromptError",
    "RecistLine",
    "Request",
    "check",
    "check_in_image",
    "check_inside",
    "check_near",
    "from_json",
    "parse",
    "parse_correction",
    "requests",
    "to_json",
]
