"""Records made by hand, and looks at the runs that they became."""

from dataclasses import replace

from flowprior.records.record import Record
from flowprior.tracking import tracking_uri

CHAVEZ = "tiny/denoising/chavez/flow_a/alpha=0.02"


def client_of(place):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri(place))


def runs_of(place, group, condition=""):
    client = client_of(place)
    return client.search_runs([client.get_experiment_by_name(group).experiment_id], condition)


def record_of(key="k", psnr=30.0, **changes):
    return replace(Record("g", "reconstruction", key, key, {}, {"psnr": psnr}), **changes)
