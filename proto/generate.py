"""Make everything in gen/ from proto/: `python proto/generate.py [output folder]`, or `make gen`.

Imports come from wheels, nothing is downloaded: google/api lies as text in googleapis-common-protos, buf/validate as a
compiled descriptor in protovalidate.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

PROTO = Path(__file__).parent
GOOGLE_API = Path(annotations_pb2.__file__).parents[2]
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
VALIDATE = "buf/validate/validate.proto"
# How a file in a buf image says that it is an import, which is not linted: field 8042 {1: true}, buf.alpha.image.v1.
IMPORT_MARK = b"\xd2\xf6\x03\x02\x08\x01"


def main(output: Path) -> None:
    """Write output/{jan,buf} (messages, types, stubs) and output/betterproto (dataclasses and clients)."""
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    services = [name for name in sources if "\nservice " in (PROTO / name).read_text()]
    for name in ("jan", "buf", "betterproto"):
        shutil.rmtree(output / name, ignore_errors=True)
    (output / "betterproto").mkdir(parents=True)
    compile_protos(f"--python_out={output}", f"--pyi_out={output}", *sources, VALIDATE)
    compile_protos(f"--grpc_python_out={output}", *services)
    compile_protos(
        f"--python_betterproto2_out={output / 'betterproto'}",
        "--python_betterproto2_opt=client_generation=sync_async",
        *sources,
    )
    for folder in {path.parent for top in ("jan", "buf") for path in (output / top).rglob("*_pb2.py")}:
        for package in (folder, *folder.parents):
            if package == output:
                break
            (package / "__init__.py").touch()


def image(target: Path) -> None:
    """Write one self-contained descriptor set of proto/, comments included: what `buf lint` and `buf breaking` read."""
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    compile_protos(f"--descriptor_set_out={target}", "--include_imports", "--include_source_info", *sources)
    files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())
    for each in files.file:
        if each.name not in sources:
            each.MergeFromString(IMPORT_MARK)
    target.write_bytes(files.SerializeToString())


def compile_protos(*arguments: str) -> None:
    """Run protoc with every import in reach; its own messages are the error report."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with tempfile.NamedTemporaryFile(suffix=".binpb") as validate:
        validate.write(_validate_descriptors())
        validate.flush()
        paths = [f"-I{PROTO}", f"-I{GOOGLE_API}", f"-I{WELL_KNOWN}", f"--descriptor_set_in={validate.name}"]
        if protoc.main(["protoc", *paths, *arguments]):
            raise SystemExit(1)


def _validate_descriptors() -> bytes:
    """buf/validate/validate.proto and what it imports, as a FileDescriptorSet."""
    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().MergeFromString(validate_pb.desc().proto.to_binary())
    for each in files.file:
        each.source_code_info.location.add(span=[0, 0, 0])  # betterproto's compiler stumbles over a file without any
    return files.SerializeToString()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["image", target]:
            image(Path(target))
        case [output]:
            main(Path(output))
        case _:
            main(PROTO.parent / "gen")
