"""The table of methods that takes too long for a page, as it was recorded."""

import json
from importlib import resources


def recorded_methods() -> dict[str, dict]:
    """What label noise, penalties and their neighbours do to the test error, as ``python -m benchmarks.methods`` wrote it down.

    Returns:
        A dictionary by the name of the data set ("mnist1d", "digits", "diabetes"), each with the ``command`` of the recording;
        the numbers of examples to ``train``, ``choose`` and ``test`` on, ``steps`` and ``batch``; the seeds; the ``limit`` of
        the training error; the ``cost`` of a step of each method in CPU time over plain SGD; and ``methods``. Each of these has
        the ``commit`` and ``torch`` that it was computed with; the ``grid`` of learning rates and strengths with the errors on
        training and validation examples; and ``chosen``, the setting of least validation error, with the errors of each test
        seed (wrong answers in percent; mean squared error for diabetes), and reg, the Gauss-Newton trace and the training
        error before the method goes off for the last third, and after. On mnist1d there is "clipping" besides the seven.

    Source: ours; chapter "Train with label noise, or with reg itself".

    >>> sorted(recorded_methods())
    ['diabetes', 'digits', 'mnist1d']
    """
    files = [file for file in resources.files(__package__).iterdir() if file.name.endswith(".json")]
    return {file.name.removesuffix(".json"): json.loads(file.read_text("utf-8")) for file in sorted(files, key=str)}
