"""A run is a folder: one network, and for each epoch its weights and what was read off them."""

from cntgraph.runs.exporting import ExportPlan, export, export_plan
from cntgraph.runs.recorder import Recorder
from cntgraph.runs.run import Check, Run, open_run

__all__ = ["Check", "ExportPlan", "Recorder", "Run", "export", "export_plan", "open_run"]
