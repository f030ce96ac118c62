"""What benchmark programs of several versions printed, recorded by others, and what it says.

Lines that are no figures are shortened. Where each text stands is written above it.
"""

from edgebnn.export.device.parse import Statistics

# lce_benchmark_model v0.4.0, QuickNet on a Raspberry Pi 4: larq/docs, compute-engine/end_to_end.ipynb.
LCE_0_4 = """STARTING!
Duplicate flags: num_threads
Min num runs: [50]
Min runs duration (seconds): [1]
Max runs duration (seconds): [150]
Inter-run delay (seconds): [-1]
Num threads: [1]
...
Loaded model quicknet.tflite
The input model file size (MB): 3.3512
Initialized session in 1.471ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=16 first=41707 curr=31870 min=31722 max=41707 avg=32491.4 std=2395

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=31929 curr=31278 min=31138 max=31929 avg=31420.6 std=260

Inference timings in us: Init: 1471, First inference: 41707, Warmup (avg): 32491.4, Inference (avg): 31420.6"""

# benchmark_model of TensorFlow 1.12 on an i.MX 8: a manual of Variscite's Yocto images.
TF_1_12 = """STARTING!
Num runs: [50]
Inter-run delay (seconds): [-1]
Num threads: [1]
Warmup runs: [1]
Graph: [mobilenet_v1_1.0_224_quant.tflite]
Use nnapi : [0]
Loaded model mobilenet_v1_1.0_224_quant.tflite
resolved reporter
Initialized session in 4.452ms
Running benchmark for 1 iterations
count=1 curr=146161

Running benchmark for 50 iterations
count=50 first=137789 curr=137254 min=137079 max=143416 avg=137722 std=896

Average inference timings in us: Warmup: 146161, Init: 4452, no stats: 137722
"""

# 2.3 or 2.4 on an Android phone: tensorflow/tensorflow issue 42507.
TF_2_4 = """STARTING!
Duplicate flags: num_threads
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [/data/local/tmp/espcn_harmonic_2x_slim_w_cl.tflite]
Enable op profiling: [1]
#threads used for CPU inference: [4]
Loaded model /data/local/tmp/espcn_harmonic_2x_slim_w_cl.tflite
The input model file size (MB): 0.004448
Initialized session in 0.855ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual \
memory footprint of the model at runtime. Take the information at your discretion.
Peak memory footprint (MB): init=0 overall=12.8672
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
"""

# 2.8 in an emulator, averages beyond six digits, then a profile: NobuoTsukamoto/meta-tensorflow-lite.
TF_2_8 = """STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [./mobilenet_v1_1.0_224.tflite]
Enable op profiling: [1]
#threads used for CPU inference: [4]
Loaded model ./mobilenet_v1_1.0_224.tflite
The input model file size (MB): 16.9008
Initialized session in 17.187ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE ...
Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
Profiling Info for Benchmark Initialization:

Timings (microseconds): count=1 curr=1356
Memory (bytes): count=0
1 nodes observed

Timings (microseconds): count=50 first=2989660 curr=2912978 min=2727203 max=3189476 avg=2.9499e+06 std=109770
Memory (bytes): count=0
31 nodes observed
"""

# 2.13 on x86: tensorflow/tensorflow issue 61946.
TF_2_13 = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [./mobilenet_v1_1.0_224_quant.tflite]
INFO: Loaded model ./mobilenet_v1_1.0_224_quant.tflite
INFO: The input model file size (MB): 4.27635
INFO: Initialized session in 0.53ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=124020 curr=116061 min=115177 max=124020 avg=117225 std=3412

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=50 first=121183 curr=115199 min=111222 max=121324 avg=116066 std=1906

INFO: Inference timings in us: Init: 530, First inference: 124020, Warmup (avg): 117225, Inference (avg): 116066
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE ...
INFO: Memory footprint delta from the start of the tool (MB): init=3.75 overall=12.1914
"""

# With --report_peak_memory_footprint, on ChromeOS, the lines that its test reads: notes on tast's mlbenchmark.
TF_PEAK = """INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 58 out of 58 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for the \
whole graph.
INFO: Initialized session in 3.337ms.
INFO: count=9 first=81913 curr=55502 min=55502 max=81913 avg=58984.7 std=8115
INFO: count=1061 first=56576 curr=56299 min=54669 max=60236 avg=56265.8 std=982
INFO: Inference timings in us: Init: 3337, First inference: 81913, Warmup (avg): 58984.7, Inference (avg): 56265.8
INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.2383
"""

# The newest, with percentiles, from an Android log: a student's notes on int8 and fp16 detectors.
TF_PERCENTILES = """07-14 13:14:52.115 22838 22838 I tflite  : Created TensorFlow Lite XNNPACK delegate for CPU.
07-14 13:14:52.190 22838 22838 I tflite  : The input model file size (MB): 3.06409
07-14 13:14:52.190 22838 22838 I tflite  : Initialized session in 92.318ms.
07-14 13:14:52.859 22838 22838 I tflite  : count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669 \
std=16613 p5=199462 median=200386 p95=235158
07-14 13:14:56.520 22838 22838 I tflite  : count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 \
std=13583 p5=140545 median=141253 p95=187533
07-14 13:14:56.521 22838 22838 I tflite  : Inference timings in us: Init: 92318, First inference: 235158, \
Warmup (avg): 211669, Inference (avg): 145528
07-14 13:14:56.521 22838 22838 I tflite  : Memory footprint delta from the start of the tool (MB): init=54.2852 \
overall=73.4102
"""

# What goes wrong. A program for a newer system: larq/compute-engine issue 770.
WRONG_LIBRARY = """./lce_benchmark_model: /lib/arm-linux-gnueabihf/libm.so.6: version `GLIBC_2.29' not found \
(required by ./lce_benchmark_model)
./lce_benchmark_model: /lib/arm-linux-gnueabihf/libc.so.6: version `GLIBC_2.34' not found (required by \
./lce_benchmark_model)
"""

# Text, warm-up, runs, init and first in microseconds, peak and growth in MB (2**20 bytes).
TEXTS: dict[str, tuple[str, Statistics, Statistics, float, float, float | None, float | None]] = {
    "LCE 0.4": (
        LCE_0_4,
        Statistics(16, 41707, 31870, 31722, 41707, 32491.4),
        Statistics(50, 31929, 31278, 31138, 31929, 31420.6),
        1471,
        41707,
        None,
        None,
    ),
    "1.12": (
        TF_1_12,
        Statistics(1, *[146161] * 5),
        Statistics(50, 137789, 137254, 137079, 143416, 137722),
        4452,
        146161,
        None,
        None,
    ),
    "2.4": (
        TF_2_4,
        Statistics(15, 49060, 33682, 32825, 49060, 34825.1),
        Statistics(50, 32891, 33978, 32641, 34005, 33209.4),
        855,
        49060,
        None,
        12.8672,
    ),
    "2.8": (
        TF_2_8,
        Statistics(1, *[3512391] * 5),
        Statistics(50, 2990275, 2913402, 2727568, 3189954, 2950340),
        17187,
        3512391,
        None,
        46.0859,
    ),
    "2.13": (
        TF_2_13,
        Statistics(5, 124020, 116061, 115177, 124020, 117225),
        Statistics(50, 121183, 115199, 111222, 121324, 116066),
        530,
        124020,
        None,
        12.1914,
    ),
    "peak": (
        TF_PEAK,
        Statistics(9, 81913, 55502, 55502, 81913, 58984.7),
        Statistics(1061, 56576, 56299, 54669, 60236, 56265.8),
        3337,
        81913,
        93.2383,
        None,
    ),
    "percentiles": (
        TF_PERCENTILES,
        Statistics(3, 235158, 200386, 199462, 235158, 211669, 199462, 200386, 235158),
        Statistics(25, 187533, 140990, 140071, 195121, 145528, 140545, 141253, 187533),
        92318,
        235158,
        None,
        73.4102,
    ),
}
