import pytest
import synthetic_evaluations as synthetic


@pytest.fixture(autouse=True)
def looked_at(drawn_figures):
    """Plots are what these tests are about."""


@pytest.fixture(scope="session")
def realistic():
    """28 twin families, 12 images each: every part of a report."""
    return synthetic.evaluation(num_folds=4)


@pytest.fixture(scope="session")
def small():
    return synthetic.evaluation(4, 3)
