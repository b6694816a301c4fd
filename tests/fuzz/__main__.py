"""Fuzz a reader of files, guided by what it covers: python tests/fuzz READER [--runs N] [--seconds S].

It begins with what was found before (tests/fuzz/corpus) and, for models, with small ones (tests/fuzz/seeds.py).
What is new goes to a folder, build/fuzz by default. An input that ends in an error that is not documented, takes
more than 10 s or more than 2 GB, is written there as crash-, timeout- or oom-, and ends the run with an exit code
other than 0. Mend the reader, and keep the input in the corpus: the tests run all of it.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

LARGEST = {"graph": 8192, "npy": 1024, "npz": 4096, "statistics": 4096}  # bytes of an input, by reader
MEMORY = Path("/dev/shm")  # files in memory, where a system has them


def fuzz(reader, folder, arguments):
    """Run libFuzzer, which ends the process."""
    import atheris  # what is imported after it can be instrumented

    with atheris.instrument_imports(include=["bytenorm"]):
        import readers
    from mutations import changed

    def mutated(content, largest, seed):
        """Change a model as a model, or as bytes."""
        made = changed(content, seed) if seed % 4 else None
        return atheris.Mutate(content, largest) if made is None or len(made) > largest else made

    readers.folder = Path(folder)
    more = {"custom_mutator": mutated} if reader == "graph" else {}
    atheris.Setup([sys.argv[0], *arguments], getattr(readers, reader), **more)
    atheris.Fuzz()


def main():
    if sys.argv[1:2] == ["--inside"]:
        return fuzz(sys.argv[2], sys.argv[3], sys.argv[4:])
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("reader", choices=LARGEST)
    parser.add_argument("--runs", type=int, default=-1, help="how many executions; as many as there is time for")
    parser.add_argument("--seconds", type=int, default=0, help="how long; until something is found")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="folder for what is found")
    options = parser.parse_args()
    found = options.found / options.reader
    found.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-runs={options.runs}", f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=2048",
        f"-max_len={LARGEST[options.reader]}", "-print_final_stats=1", f"-artifact_prefix={found}/", str(found),
        str(Path(__file__).parent / "corpus" / options.reader),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bytenorm-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        if options.reader == "graph":
            from seeds import SEEDS

            begin = Path(folder, "seeds")
            begin.mkdir()
            for name, model in SEEDS.items():
                (begin / name).write_bytes(model.SerializeToString())
            arguments.append(str(begin))
        command = [sys.executable, str(Path(__file__).parent), "--inside", options.reader, folder, *arguments]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
