"""Trained flows in MLflow's model registry: versions, the best of them, and the way back."""

import pytest
from published_tree import make_tree, save_weights
from tracked import client_of

from flowprior import tracking
from flowprior.errors import FlowpriorError
from flowprior.models import flows
from flowprior.records import records_of
from flowprior.report import Layout
from flowprior.tracking import publish, tracking_uri
from flowprior.tracking.server import addressed

pytestmark = pytest.mark.usefixtures("no_server")


class TestRegisteredFlows:
    def test_load_as_the_flow_they_are(self, published, monkeypatch):
        import mlflow
        import torch

        root, experiment, done = published
        monkeypatch.chdir(root)
        assert done.models == (f"flow-{experiment.data.key}-8bit version 1",)
        uri = f"models:/flow-{experiment.data.key}-8bit@best"
        flow, trained = tracking.load_flow(uri), flows.load(Layout(experiment, root).flow("flow_a", "weights").parent)
        x = torch.rand(3, *flow.shape)
        assert torch.equal(flow.log_prob(x), trained.log_prob(x))
        with addressed(tracking_uri(root)):
            latents, log_det = mlflow.pytorch.load_model(uri)(x)
            about = mlflow.models.get_model_info(uri)
        for found, wanted in zip((latents, log_det), trained(x), strict=True):
            torch.testing.assert_close(found, wanted)
        assert [spec.name for spec in about.signature.inputs.inputs] == ["images"]
        assert [spec.name for spec in about.signature.outputs.inputs] == ["latents", "log_det"]
        version = client_of(root).get_model_version_by_alias(f"flow-{experiment.data.key}-8bit", "best")
        assert version.run_id == done.runs["tiny/training/flow_a"]

    def test_the_best_is_the_one_with_the_fewest_bits(self, place):
        name, best = None, []
        for seed, bits_per_dim in ((1, 4.0), (2, 3.5), (3, 3.9)):
            experiment = make_tree(place)
            save_weights(Layout(experiment, place), "flow_a", seed, bits_per_dim=bits_per_dim)
            only_training = [record for record in records_of(experiment, place) if record.kind == "training"]
            done = publish(only_training, place)
            assert len(done.models) == 1
            name = done.models[0].partition(" ")[0]
            best.append(client_of(place).get_model_version_by_alias(name, "best").version)
        assert [int(version) for version in best] == [1, 2, 2]
        run = client_of(place).get_run(done.runs["tiny/training/flow_a"])
        # Opening the run again for its model left its times as they were.
        assert run.info.end_time - run.info.start_time == 182_000

    def test_after_an_interruption_the_best_is_named(self, place):
        experiment = make_tree(place)
        done = publish(records_of(experiment, place), place)
        name = done.models[0].partition(" ")[0]
        client_of(place).delete_registered_model_alias(name, "best")
        assert publish(records_of(experiment, place), place).models == ()
        assert int(client_of(place).get_model_version_by_alias(name, "best").version) == 1

    def test_one_that_is_not_there_is_one_line(self, published, monkeypatch):
        root, _, _ = published
        monkeypatch.chdir(root)
        with pytest.raises(FlowpriorError, match="no flow at models:/nothing@best") as error:
            tracking.load_flow("models:/nothing@best")
        assert "\n" not in str(error.value)

    def test_looking_for_one_leaves_nothing_behind(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FlowpriorError, match="nothing is recorded yet"):
            tracking.load_flow("models:/some-flow@best")
        assert not list(tmp_path.iterdir())
