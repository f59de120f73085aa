"""The index of AugReg's checkpoints: 50,000 rows of pre-trainings and their fine-tunings."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationError

from vitsmith.errors import WeightsError
from vitsmith.fields import Frozen

Score = Annotated[float | None, BeforeValidator(lambda cell: None if cell in ("", "nan", "NaN") else cell)]


class AugregRow(Frozen):
    """One row of the index, with the columns a query may use; scores and accuracies are shares of 1."""

    name: str
    ds: str
    epochs: Score = None
    lr: float
    aug: str
    wd: float
    do: float
    sd: float
    best_val: Score
    final_val: Score
    final_test: Score
    adapt_ds: str
    adapt_lr: float
    adapt_steps: int
    adapt_resolution: int
    adapt_final_val: Score
    adapt_final_test: Score
    params: Score
    infer_samples_per_sec: Score
    filename: str
    adapt_filename: str


def read_index(path: Path) -> list[AugregRow]:
    """The rows of an index.csv. Raises WeightsError when it is not one."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            columns = [column for column in reader.fieldnames or () if column in AugregRow.model_fields]
            required = {name for name, field in AugregRow.model_fields.items() if field.is_required()}
            if missing := sorted(required - set(columns)):
                raise WeightsError(f"{path} is not the AugReg index: it has no column {', '.join(missing)}")
            return [AugregRow.model_validate({column: row[column] for column in columns}) for row in reader]
        except ValidationError as error:
            first = error.errors()[0]
            where = f"line {reader.line_num}, column {first['loc'][0]}"
            raise WeightsError(
                f"{path} is damaged at {where}: {first['input']!r} ({first['msg']}); delete it to fetch it again"
            ) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise WeightsError(f"{path} is not a CSV file ({error}); delete it to fetch it again") from error
