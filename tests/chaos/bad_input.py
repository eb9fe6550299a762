"""Bad input: configs, image files, the files of datasets and priors, arguments of commands. Refused in one line, or harmless."""

from tests.chaos.bad_commands import commands, looks
from tests.chaos.bad_configs import configs
from tests.chaos.bad_files import datasets, given, ingested
from tests.chaos.bad_images import images
from tests.chaos.outcome import Fault

FAULTS: list[Fault] = [
    ("config changed", configs, 40, 20_000),
    ("image file damaged", images, 400, 100_000),
    ("dataset file damaged", datasets, 60, 10_000),
    ("damaged images ingested", ingested, 6, 500),
    ("prior or rates damaged", given, 40, 5_000),
    ("odd command", commands, 6, 1_000),
    ("odd look at results", looks, 10, 2_000),
]
