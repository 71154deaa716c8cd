"""Planted errors of compression: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

CODE, FILE, FORMATS = (f"lightning_gen/compression/{name}.py" for name in ("code", "file", "formats"))
PLANTS = [
    Plant(
        "counts of 0",
        CODE,
        "counts = 1 + np.floor(p * (total - p.shape[1]))",
        "counts = np.floor(p * total)",
        "tests/compression/test_code.py::test_counts_sum_to_the_whole_and_none_is_0",
    ),
    Plant(
        "counts whose sum is not the whole",
        CODE,
        "] += total - counts.sum(1)",
        "] += 0",
        "tests/compression/test_code.py::test_counts_sum_to_the_whole_and_none_is_0",
    ),
    Plant(
        "code lengths in nats",
        CODE,
        "return -model.log_prob(x).double() / math.log(2)",
        "return -model.log_prob(x).double()",
        "tests/compression/test_code.py::test_the_length_is_minus_log2_p",
    ),
    Plant(
        "the noise's density forgotten in the bound",
        CODE,
        "(model.log_prob(y) - log_q)",
        "model.log_prob(y)",
        "tests/compression/test_code.py::test_the_bound_of_a_uniform_density_is_log2_of_the_levels",
    ),
    Plant(
        "images coded in their worst ordering",
        CODE,
        "torch.stack(each).argmax(0)",
        "torch.stack(each).argmin(0)",
        "tests/compression/test_code.py::test_an_image_is_coded_in_its_best_ordering",
    ),
    Plant(
        "every value by the law of the first",
        CODE,
        "model.table(groups, x, i))",
        "model.table(groups, 0 * x, i))",
        "tests/compression/test_code.py::test_images_come_back_to_the_bit_and_cost_their_probability",
    ),
    Plant(
        "threads of the writer not compared",
        FILE,
        '"threads": torch.get_num_threads(),',
        '"threads": 1,',
        "tests/compression/test_file.py::test_what_sums_depend_on_is_known",
    ),
    Plant(
        "a digest without the header",
        FILE,
        "MAGIC + short_digest(content).encode()",
        "MAGIC + short_digest(code).encode()",
        "tests/compression/test_file.py::test_a_file_is_read_as_it_was_written",
    ),
    Plant(
        "sheets with their rows and columns exchanged",
        FORMATS,
        "tiles.swapaxes(1, 2).reshape",
        "tiles.reshape",
        "tests/compression/test_formats.py::test_a_sheet_has_every_image_in_its_place",
    ),
]
