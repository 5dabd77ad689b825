"""What `dcal-verify` imports: of torch nothing for an exported model, and of its compiler nothing for a checkpoint."""

import json
import subprocess
import sys

from tiny import tiny_model

from twin_dcal.metrics.error_curve import Threshold

HEAVY = (
    "torch",
    "torch._dynamo",
    "timm",
    "wandb",
    "huggingface_hub",
    "matplotlib",
    "sklearn",
    "fastapi",
    "twin_dcal.config",
)
TELL = f"import json, sys; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_exported_model_needs_none_of_the_large_libraries():
    needed = "import twin_dcal.cli.verify, twin_dcal.inference.engine, twin_dcal.verify.session\n"
    assert run(f"{needed}import twin_dcal.inference.onnx_backend, twin_dcal.web\n{TELL}") == []


def test_a_checkpoint_is_run_without_the_compiler_which_can_be_imported_afterwards(tmp_path, tiny_faces):
    path = tiny_model(tmp_path, threshold=Threshold(0.5, {}))
    one = next(tiny_faces.glob("test/*/*.png"))
    code = (
        "import sys; from twin_dcal.cli import verify; assert verify.body(sys.argv[1:]) == 0\n"
        f"{TELL}\n"
        "import torch._dynamo; assert callable(torch._dynamo.optimize) and torch._dynamo.utils.counters is not None"
    )
    given = ["--model", path, "--img1", one, "--img2", one, "--align", "never", "--output_dir", tmp_path]
    assert run(code, *given) == ["torch", "timm", "twin_dcal.config"]


def test_libraries_that_ask_more_of_the_compiler_get_it():
    code = (
        "import sys, twin_dcal.privacy; from twin_dcal.cli import quick_imports\n"
        "quick_imports.ModuleType = type('Empty', (quick_imports.ModuleType,), {'__dict__': property(lambda _: {})})\n"
        "quick_imports.import_torch_backend()\n"
        "import json; print(json.dumps('torch._dynamo' in sys.modules))"
    )
    assert run(code) is True
