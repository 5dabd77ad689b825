import made_engine
import pytest
from talking import served


@pytest.fixture(scope="session")
def web_engine(tmp_path_factory):
    return made_engine.engine(tmp_path_factory.mktemp("web_model"))


@pytest.fixture(scope="session")
def port(web_engine):
    with served(web_engine, explains=made_engine.explains(web_engine)) as found:
        yield found
