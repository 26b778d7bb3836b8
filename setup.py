"""Ships rules/ and playbooks/ inside the package: they stand at the top of the repository to be read and edited."""

from setuptools import find_packages, setup

CONTENT = {
    "responder.rules": "rules",
    "responder.playbooks": "playbooks",
    "responder.playbooks.causes": "playbooks/causes",
    "responder.translations": "translations",
}

setup(
    packages=[*find_packages(include=["responder*"]), *CONTENT],
    package_dir=dict(CONTENT),
    package_data={**dict.fromkeys(CONTENT, ["*.yaml"]), "responder.web": ["assets/*"]},
)
