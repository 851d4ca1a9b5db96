from my_tasks.nightly import Given, nightly

from perago.testing import TaskRunner

TREE = {"raw/big.csv": "x\n1\n2\n", "raw/small.csv": "x\n1\n"}


def test_the_report_counts_the_rows_of_the_features(perago_run: TaskRunner) -> None:
    ran = perago_run.workflow(nightly, Given(min_rows=2), tree=TREE)

    assert (ran.status, ran.result) == ("COMPLETED", {"rows": 2})
    assert ran.tree["report.txt"] == b"Rows: 2\n"


def test_a_worker_that_dies_in_the_first_step_changes_nothing(perago_run: TaskRunner) -> None:
    ran = perago_run.workflow(nightly, tree=TREE, lost=["build"])

    assert (ran.status, ran.result) == ("COMPLETED", {"rows": 3})
