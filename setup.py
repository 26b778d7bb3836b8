"""Ships rules/ and playbooks/ inside the package: they stand at the top of the repository for people to read and edit."""

from setuptools import find_packages, setup

CONTENT = {
    "responder.rules": "rules",
    "responder.playbooks": "playbooks",
    "responder.playbooks.causes": "playbooks/causes",
}

setup(
    packages=[*find_packages(include=["responder*"]), *CONTENT],
    package_dir=dict(CONTENT),
    package_data=dict.fromkeys(CONTENT, ["*.yaml"]),
)
