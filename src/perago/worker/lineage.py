"""Send the lineage of attempts to a receiver of OpenLineage, such as Marquez.

The client `openlineage-python` sends, and its own variables and configuration file say where. A thread of its own loads
the client and sends from a limited queue, so that neither the start of a worker nor an attempt waits. Events that the
receiver does not accept are lost. This needs the extra `openlineage`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import perago
from perago.ports import Delivery
from perago.settings.mask import Mask
from perago.settings.sources import configured_mask, whole_environment
from perago.text import one_line
from perago.worker import events
from perago.worker.events import Event, Listener
from perago.worker.export_settings import wants_lineage
from perago.worker.logs import cleaned, delivery_ids
from perago.worker.plan import ExportContext, WorkerPlan
from perago.worker.sending import END_LIMIT, MOST_EVENTS, ClientMessages, EventThread, Say, Watch, warnings_to

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

NAMESPACE = "perago"
"""The namespace of jobs, unless `OPENLINEAGE_NAMESPACE` names another one."""
SENDS_NOTHING = "OpenLineage sends nothing"
_MISSING = f"{SENDS_NOTHING}: openlineage cannot be found; pip install openlineage-python"
_TAGS = ("workflow_id", "task_id", "task_name", "retry_count", "worker_id")
_RUNS = uuid.UUID("5d0e2e0e-6b7c-5d55-9a3a-0f8f1d3c7b11")
"""The namespace of the ids of runs that are derived from other ids."""
AboutRun = events.AttemptReceived | events.AttemptEnded
"""The events that begin or end a run."""


@contextlib.contextmanager
def openlineage(context: ExportContext) -> Iterator[Listener | None]:
    """Send a run for each attempt while a worker runs. A wrong setting is warned about, and costs nothing else."""
    notices = context.notices
    if notices is None or not wants_lineage(whole_environment()):
        yield None
        return
    if not _is_installed():
        notices.warning(_MISSING)
        yield None
        return
    notices.note("sending lineage with OpenLineage")
    with warnings_to(notices) as say:
        sender = LineageSender(context.plan, say)
        try:
            yield sender
        finally:
            sender.end()


def lineage_problem() -> str:
    """Return why a worker with this environment sends no lineage although it is requested; empty: there is no reason.
    Builds the client, and sends nothing."""
    if not wants_lineage(whole_environment()):
        return ""
    if not _is_installed():
        return _MISSING
    messages = ClientMessages(configured_mask(), "openlineage", "urllib3")
    try:
        with _with_withheld():
            _client().close()
    except Exception as error:  # noqa: BLE001 - whatever the client makes of its settings
        return _refused(error, messages.mask)
    finally:
        messages.end()
    return ""


def _refused(error: Exception, mask: Mask) -> str:
    reason = one_line(mask(f"{type(error).__name__}: {error}"))
    return f"{SENDS_NOTHING}: {reason}; correct OPENLINEAGE_URL or the configuration file of OpenLineage"


def _is_installed() -> bool:
    try:
        return find_spec("openlineage.client") is not None
    except ModuleNotFoundError:
        return False


class LineageSender:
    """A `Listener` that sends a start and an end of each attempt, on its own thread, from its creation to `end`."""

    def __init__(self, plan: WorkerPlan, say: Say) -> None:
        self._plan = plan
        self._say = say
        self._messages = ClientMessages(plan.mask, "openlineage", "urllib3")
        self._watch = Watch("OpenLineage: the receiver", "events", self._messages, say)
        self._is_open = True
        self._thread = EventThread("perago-lineage", self._run)

    def __call__(self, event: Event) -> None:
        """Take the start or the end of an attempt to be sent."""
        if not self._is_open or not isinstance(event, AboutRun):
            return
        if not self._thread.put((event, datetime.datetime.now(datetime.UTC))):
            self._watch.lose(1, f"it is too slow, and {MOST_EVENTS:,} events wait")

    def end(self) -> None:
        """Send what is left, for a limited time."""
        self._is_open = False
        unsent = self._thread.end()
        if unsent is None:
            self._messages.end()
        else:  # the thread still sends, and the client still logs
            late = f"did not accept the last events within {END_LIMIT:g} s"
            self._say(f"OpenLineage: the receiver {late}; {unsent:,} further ones were not sent")

    def _run(self, queued: Iterator[tuple[AboutRun, datetime.datetime]]) -> None:
        try:
            with _with_withheld():
                client = _client()
        except Exception as error:  # noqa: BLE001 - whatever the client makes of its settings
            self._is_open = False
            self._say(_refused(error, self._messages.mask))
            return
        runs = RunEvents(self._plan)
        for event, moment in queued:
            self._watch(partial(runs.send, client, event, moment))


@contextlib.contextmanager
def _with_withheld() -> Iterator[None]:
    """Show the variables of OpenLineage that functions do not get, which the client reads from `os.environ`. It also
    adds others, which must not stay."""
    before = dict(os.environ)
    variables = {name: value for name, value in whole_environment().items() if name.startswith("OPENLINEAGE_")}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("OPENLINEAGE_") and name not in before]:
            del os.environ[name]


def _client() -> OpenLineageClient:
    """Return a client for the configured receiver.

    Raises:
        ValueError: no receiver is configured. The client itself would print the events, and raises anything for wrong
            settings.
    """
    from openlineage.client import OpenLineageClient

    file = os.environ.get("OPENLINEAGE_CONFIG")
    if file and not Path(file).is_file():
        raise ValueError(f"OPENLINEAGE_CONFIG is {file}, which is not a file")
    client = OpenLineageClient()
    if client.transport.kind == "console":
        raise ValueError("no transport is configured, or the one that prints")
    return client


class RunEvents:
    """Makes the events of runs. Needs the client.

    A run is one delivery of an attempt. Its job is a step of a workflow, and its parent the run of the workflow. Its
    input and output are the workspace on its branch: the dataset `BRANCH/PREFIX` of `lakefs://REPOSITORY`.
    """

    def __init__(self, plan: WorkerPlan) -> None:
        from openlineage.client.event_v2 import set_producer

        self._plan = plan
        self._mask: Mask = plan.mask
        self._namespace = os.environ.get("OPENLINEAGE_NAMESPACE") or NAMESPACE
        self._prefixes = {task.name: task.prefix for task in plan.tasks}
        self._producer = f"urn:perago:{perago.__version__}"
        set_producer(self._producer)

    def send(self, client: OpenLineageClient, event: AboutRun, moment: datetime.datetime) -> None:
        """Send the event for the start or the end of an attempt."""
        client.emit(self.of(event, moment))

    def of(self, event: AboutRun, moment: datetime.datetime) -> RunEvent:
        """Return the event for the start or the end of an attempt."""
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
        from openlineage.client.facet_v2 import error_message_run, job_type_job, parent_run, processing_engine_run
        from openlineage.client.facet_v2 import tags_run as tags

        delivery, end = event.delivery, event if isinstance(event, events.AttemptEnded) else None
        state = RunState.START
        if end is not None:
            failed = RunState.FAIL if end.ending is events.Ending.REPORTED else RunState.ABORT
            state = RunState.COMPLETE if end.completed else failed
        workflow = self._clean(delivery.workflow_name) or "workflow"
        ids = {**delivery_ids(delivery), "worker_id": event.worker_id}
        facets: dict[str, Any] = {
            "parent": parent_run.ParentRunFacet(
                run=parent_run.Run(runId=str(_uuid_of(delivery.workflow_id))),
                job=parent_run.Job(namespace=self._namespace, name=workflow),
            ),
            "processing_engine": processing_engine_run.ProcessingEngineRunFacet(perago.__version__, "perago"),
            "tags": tags.TagsRunFacet(
                [tags.TagsRunFacetFields(key, self._clean(str(ids[key])), source="PERAGO") for key in _TAGS]
            ),
        }
        if end is not None and not end.completed:
            message = self._clean(end.reason or end.ending.value)
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message, programmingLanguage="python")
        reference = self._clean(delivery.reference_name.removesuffix(f"__{delivery.iteration}"))
        kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="PERAGO", jobType="TASK")
        inputs, outputs = self._datasets(delivery, end)
        return RunEvent(
            eventType=state,
            eventTime=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            run=Run(runId=str(uuid.uuid5(_RUNS, ":".join(map(str, delivery.identity)))), facets=facets),
            job=Job(namespace=self._namespace, name=f"{workflow}.{reference}", facets={"jobType": kind}),
            inputs=inputs,
            outputs=outputs,
            producer=self._producer,
        )

    def _datasets(
        self, delivery: Delivery, end: events.AttemptEnded | None
    ) -> tuple[list[InputDataset], list[OutputDataset]]:
        """Return the input and, of a run that has ended, the output. The version of both is a commit."""
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import dataset_version_dataset, output_statistics_output_dataset

        repository, block = self._plan.repository_of(delivery), delivery.input.get("workspace")
        if repository is None or not isinstance(block, Mapping):
            return [], []
        branch, prefix = block.get("branch"), (self._prefixes.get(delivery.task_name) or "").strip("/")
        namespace = f"lakefs://{repository}"
        name = "/".join(filter(None, [self._clean(branch if isinstance(branch, str) else ""), prefix]))

        def version(commit: str | None) -> dict[str, Any]:
            version = dataset_version_dataset.DatasetVersionDatasetFacet
            return {"version": version(self._clean(commit))} if commit else {}

        ref = block.get("ref") if block.get("ref_type") == "commit" else None
        ref = end.usage.input_ref if end is not None else ref if isinstance(ref, str) else None
        inputs = [InputDataset(namespace, name, facets=version(ref), inputFacets=self._assertions(end, "pre"))]
        facets, commit = self._assertions(end, "post"), end.published_commit if end is not None else None
        if end is not None and commit is not None:
            facets["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                size=end.usage.changed_bytes, fileCount=end.usage.changed
            )
        if not facets:
            return inputs, []
        return inputs, [OutputDataset(namespace, name, facets=version(commit), outputFacets=facets)]

    def _assertions(self, end: events.AttemptEnded | None, phase: str) -> dict[str, Any]:
        """Return the verdicts of the guardrails of a phase, if there are any."""
        from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

        verdicts = [verdict for verdict in end.usage.verdicts if verdict.phase == phase] if end is not None else []
        if not verdicts:
            return {}

        def assertion(verdict: events.JudgedRule) -> quality.Assertion:
            rule, message = self._clean(verdict.rule or "perago"), self._clean(verdict.message)
            name = f"{phase} guardrail"
            return quality.Assertion(rule, verdict.satisfied, severity="error", name=name, description=message)

        return {"dataQualityAssertions": quality.DataQualityAssertionsDatasetFacet([*map(assertion, verdicts)])}

    def _clean(self, text: str) -> str:
        """Return text from outside without secrets, as JSON takes it."""
        return str(cleaned(text, self._mask))


def _uuid_of(workflow_id: str) -> uuid.UUID:
    """Return the id of a workflow, which Conductor usually makes as a UUID, as one."""
    try:
        return uuid.UUID(workflow_id)
    except ValueError:
        return uuid.uuid5(_RUNS, workflow_id)
