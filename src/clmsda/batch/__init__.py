"""Many CTs, each with prompts: masks, measurements, one table and one page of all of them out."""

from clmsda.batch.errors import BatchError
from clmsda.batch.places import place
from clmsda.batch.running import run
from clmsda.batch.studies import read_studies
from clmsda.batch.table import Row, read_table

__all__ = ["BatchError", "Row", "place", "read_studies", "read_table", "run"]
