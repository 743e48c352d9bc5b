import pytest
from small_training import CONFIG, Killed, batches, loss, network, raising, score

from ecgtransfer.training import fit


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Network, folder and result of a training that nothing interrupted."""
    folder, model = tmp_path_factory.mktemp("undisturbed"), network()
    return model, folder, fit(model, loss, batches, CONFIG, folder, validate=score)


@pytest.fixture
def begun(tmp_path):
    """A folder with the checkpoint of step 15."""
    with pytest.raises(Killed):
        fit(network(), loss, raising(batches, 17, Killed), CONFIG, tmp_path, validate=score)
    return tmp_path
