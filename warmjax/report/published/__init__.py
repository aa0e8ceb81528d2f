"""The study's own numbers, in columns of ours, and nothing but numbers.

    cells.csv               error by arm, model, task, belief and context, with the study's paired test
    warmth.csv              SocioT by model and epoch, nats a token
    benchmarks.csv          MMLU and GSM8K accuracy, AdvBench refusals, in %
    social_sycophancy.csv   ELEPHANT rates in %
    coefficients.csv        regressions M1 to M4 as printed
    people.csv              what people preferred, and their agreement with SocioT, in % (peer-review file)
    lengths.csv             mean length of answers in characters
    marginal_effects.csv    their average marginal effects in pp

Sources: the result files in the authors' two repositories and the Supplementary Tables 11 to 18 (arXiv 2507.21919).
"""
