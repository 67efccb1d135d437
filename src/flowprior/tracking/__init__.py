"""Records as MLflow runs, and MLflow's pages of them. Nothing else imports mlflow, and this only when it is needed."""

from flowprior.tracking.models import load_flow
from flowprior.tracking.outcome import publish_experiment
from flowprior.tracking.publishing import Published, publish
from flowprior.tracking.server import TrackingError, tracking_uri
from flowprior.tracking.ui import serve

__all__ = ["Published", "TrackingError", "load_flow", "publish", "publish_experiment", "serve", "tracking_uri"]
