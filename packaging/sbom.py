"""The crates that are in the program, as a CycloneDX document: sbom.py TARGET.

The hashes are those of Cargo.lock, so a reader can tell each crate from any other of its name. CycloneDX' own schema judges
the document before it is printed.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import tomllib
import uuid

from crates import REPOSITORY, ROOT, linked
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

def component(package: dict, checksums: dict[tuple[str, str], str], licences: LicenseFactory) -> Component:
    name, version = package["name"], package["version"]
    checksum = checksums.get((name, version))
    # Crates of long ago write MIT/Apache-2.0.
    licence = (package["license"] or "").replace("/", " OR ")
    return Component(
        type=ComponentType.APPLICATION if name == ROOT else ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"{name}@{version}",
        description=(package["description"] or "").strip() or None,
        purl=PackageURL("cargo", None, name, version) if checksum else None,
        licenses=[licences.make_from_string(licence)] if licence else [],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [],
    )


def main() -> None:
    lock = tomllib.loads((REPOSITORY / "Cargo.lock").read_text())
    checksums = {(each["name"], each["version"]): each["checksum"] for each in lock["package"] if "checksum" in each}
    crates, licences = linked(sys.argv[1]), LicenseFactory()
    made = {name: component(package, checksums, licences) for name, package in crates.packages.items()}
    bom = Bom(components=[each for name, each in made.items() if name != crates.root])
    bom.metadata.component = made[crates.root]
    # The same commit, the same document.
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(sorted(checksums.items())))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    for name, each in made.items():
        bom.register_dependency(each, [made[use] for use in crates.uses[name]])
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        sys.exit(f"sbom.py: not a CycloneDX document: {fault}")
    print(text)


if __name__ == "__main__":
    main()
