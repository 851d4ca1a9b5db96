from my_tasks.features import Params, build_features

from perago.testing import TaskRunner

TREE = {"raw/big.csv": "x\n1\n2\n", "raw/small.csv": "x\n1\n"}


def test_small_tables_are_left_out(perago_run: TaskRunner) -> None:
    outcome = perago_run(build_features, Params(min_rows=2), tree=TREE).assert_completed()

    assert outcome.result == {"files": 1}
    assert outcome.changed_files == ("features/big.csv",)


def test_a_worker_that_dies_before_its_report_publishes_once(perago_run: TaskRunner) -> None:
    lost = perago_run(build_features, tree=TREE, report=False)

    assert perago_run.again().adopted_commit == lost.commit
