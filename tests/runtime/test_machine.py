import json
import platform
import struct

import numpy as np
import onnxruntime

from edgebnn.runtime.system import machine

PI_4 = """processor\t: 3
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU part\t: 0xd08

Revision\t: c03114
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
PI_5 = "Features\t: fp asimd asimdhp asimdrdm asimddp\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
ARM_32 = "model name\t: ARMv7 Processor rev 3 (v7l)\nFeatures\t: half thumb neon vfpv4\n"
X86 = "model name\t: Some CPU @ 2.00GHz\nflags\t\t: avx2 avx512f avx512_vnni avx512_vpopcntdq\nbugs\t\t: none\n"


def test_cpuinfo_of_each_architecture() -> None:
    assert machine.parse_cpuinfo(PI_4) == ("Raspberry Pi 4 Model B Rev 1.4", ["neon"])
    assert machine.parse_cpuinfo(PI_5) == ("Raspberry Pi 5 Model B Rev 1.0", ["neon", "dotprod"])
    assert machine.parse_cpuinfo(ARM_32) == ("ARMv7 Processor rev 3 (v7l)", ["neon"])
    assert machine.parse_cpuinfo(X86) == ("Some CPU @ 2.00GHz", ["avx2", "avx512f", "avx512_vpopcntdq", "avx512_vnni"])
    assert machine.parse_cpuinfo("") == ("", [])


def test_this_machine_is_plain_json_and_true() -> None:
    described = machine.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["bits"] == 8 * struct.calcsize("P")
    assert described["architecture"] == platform.machine()
    assert (described["numpy"], described["onnxruntime"]) == (np.__version__, onnxruntime.__version__)
    assert described["cores"] >= 1
    line = machine.one_line(described)
    assert described["cpu"] in line
    assert "\n" not in line
