"""What metrics are called, which direction is better, and what each says: for people to read."""

__all__ = ["MEANINGS", "direction", "kind_of"]

_KINDS = (
    *("kid", "fd", "frame_sharpness", "frame_mean", "frame_std", "frame_change"),
    *("score", "stayed", "return", "reached", "ms_per_plan", "ms_per_step"),
    *("energy", "loss", "latent_perplexity", "latent_information", "straightness", "curvature"),
    *("jacobian_denoiser", "jacobian_drift"),
    *("distinct", "kmer"),
    *("ms", "calls"),
)
MEANINGS = {
    "class_agreement": (
        "class agreement",
        "↑",
        "share of samples in which an independent classifier sees the class asked for",
    ),
    "kid": ("kernel distance", "↓", "to the training pictures, ± standard error, in features of"),
    "fd": ("Fréchet distance", "↓", "to equally many training pictures, in features of"),
    "precision": ("precision", "↑", "share of samples that lie among real pictures: realism"),
    "recall": ("recall", "↑", "share of real pictures that lie among samples: diversity"),
    "density": ("density", "↑", "real pictures around a sample; 1 where the sets agree"),
    "coverage": ("coverage", "↑", "share of real pictures with a sample in their neighbourhood"),
    "nearest": (
        "nearest training picture",
        "≈",
        "median distance in pixels; as held-out: neither copies nor far from the data",
    ),
    "memorised": (
        "memorised",
        "↓",
        "share of samples nearer to a training picture than 99 % of held-out pictures are; about "
        "0.01 where nothing is memorised",
    ),
    "colours": (
        "colours",
        "↓",
        "total variation of their shares from those of training pictures; of noised pictures a "
        "fifth is drawn anew",
    ),
    "neighbours": ("neighbours", "↓", "the same of the colours of two pixels beside each other"),
    "discreteness": ("discreteness", "↑", "share of final analog bits within 0.1 of a level"),
    "crps_sum": (
        "CRPS of the sum",
        "↓",
        "how far the forecast of the columns' sum is off, as a distribution, over its size",
    ),
    "crps": ("CRPS", "↓", "the same of every column"),
    "inside_90": (
        "inside 90 %",
        "≈",
        "share of what came between the 5 % and 95 % quantiles; where the spread is right, "
        "0.9 (P - 1) / (P + 1) of P paths",
    ),
    "mean_error": ("error of the median", "↓", "mean absolute, over the mean absolute value"),
    "error": (
        "error",
        "↓",
        "of the mean of the predicted paths, root mean square, in deviations of the data",
    ),
    "score": ("score", "↑", "0 for random forces, 100 for the controller:"),
    "stayed": ("score, had it stayed", "↑", "where the goal was first within 0.5:"),
    "return": ("return", "↑", "steps within 0.5 of the goal:"),
    "reached": ("reached", "↑", "share of tasks that came within 0.5 of the goal:"),
    "ms_per_plan": (
        "time of a plan",
        "↓",
        "in milliseconds, tasks of a kind side by side, or one:",
    ),
    "ms_per_step": (
        "time of a step",
        "↓",
        "of planning, in milliseconds, tasks of a kind side by side:",
    ),
    "ms_encode": ("time of encoding", "↓", "in milliseconds a picture"),
    "ms_prior": ("time of the prior", "↓", "in milliseconds a sample"),
    "calls": (
        "evaluations",
        "",
        "that a sample took where not as many as asked for, for codes, and evaluations asked for:",
    ),
    "ms": ("time of a sample", "↓", "in milliseconds, for codes, and evaluations:"),
    "frame_sharpness": ("sharpness", "≈", "variance of the Laplacian of the frames:"),
    "frame_mean": ("brightness", "≈", "mean of all pixels:"),
    "frame_std": ("contrast", "≈", "deviation of the pixels of a frame:"),
    "frame_change": (
        "change",
        "≈",
        "mean difference from frame to frame; 0 where a video stands still:",
    ),
    "frames_per_second": ("frames per second", "↑", "of each video, all of them side by side"),
    "energy": (
        "energy distance",
        "↓",
        "to fresh points, without bias: n of the same law are 0 ± 5.5 / n apart, by chance. "
        "Codes, and evaluations:",
    ),
    "perplexity": ("perplexity", "≈", "codes in use of a latent, at most k"),
    "mutual_information": ("mutual information", "↑", "of codes and class, in bits"),
    "modes": ("modes recovered", "↑", "classes with a code of their own: over 90 % pure"),
    "dead_codes": ("dead codes", "↓", "of all latents: used for less than a tenth of a fair share"),
    "latent_perplexity": ("perplexity", "≈", "codes in use of latent"),
    "latent_information": ("mutual information", "↑", "in bits, with the class, of latent"),
    "loss": ("error", "↓", "squared, of the estimate, at a noise level sigma, for codes that are:"),
    "straightness": (
        "straightness",
        "↑",
        "chord by arc of the paths to samples, for codes that are:",
    ),
    "curvature": (
        "curvature",
        "↓",
        "median over the paths to samples, in units of 1 / state, at a level sigma, for codes that "
        "are:",
    ),
    "jacobian_denoiser": (
        "Jacobian of the denoiser",
        "↓",
        "Frobenius norm along the paths, root mean square, at a level sigma, for codes that are:",
    ),
    "jacobian_drift": (
        "Jacobian of the drift",
        "",
        "the same of (y - D) / sigma, which codes need not lower, at a level sigma, for codes that "
        "are:",
    ),
    "index_bits": (
        "bits of an index",
        "",
        "log2 N: codes that hold as much could number the samples trained on",
    ),
    "code_bits": ("bits of a code", "", "m log2 k: what the codes of a sample can hold"),
    "marginal_bits": (
        "bits by their marginals",
        "",
        "what training codes hold as far as each latent by itself tells",
    ),
    "prior_bits_train": (
        "prior, training codes",
        "↓",
        "bits of a sample's codes by the prior; of a prior by bits an upper bound",
    ),
    "prior_bits_held_out": (
        "prior, held-out codes",
        "↓",
        "the same of others, by bits again a bound; far above training codes, it has learnt those "
        "by heart",
    ),
    "invalid_codes": ("invalid codes", "↓", "share of values whose bits spell no value"),
    "true": ("true", "↑", "share of captions that are true of their picture, exactly"),
    "true_of_another": (
        "true of another",
        "",
        "share of the same captions that are true of another picture: what holds of many",
    ),
    "true_beyond": (
        "true beyond that",
        "↑",
        "the share that is true, less that of another picture: 0 of what holds anywhere",
    ),
    "sentence": ("sentences", "↑", "share whose truth can be known at all: of the grammar"),
    "bleu_4": ("BLEU-4", "↑", "stretches of one to four words that the picture's captions have"),
    "cider": ("CIDEr", "↑", "the same, weighed by how rare they are, as its paper has it"),
    "cider_d": ("CIDEr-D", "↑", "as published scripts have it: what tables call CIDEr"),
    "rouge_l": ("ROUGE-L", "↑", "the longest words in order that a caption of the picture has"),
    "exact": ("exact", "↑", "share that is a caption of the picture, word for word"),
    "similarity": ("similarity", "↑", "cosine of embeddings to the nearest of the captions"),
    "different": ("different", "≈", "number of different captions, as a share of all"),
    "known": (
        "known",
        "≈",
        "share that is a training caption of these data, but for capitals and marks",
    ),
    "mean_words": ("words", "≈", "mean number of words of a caption"),
    "ragged": ("ragged", "↓", "share with something after its end"),
    "empty": ("empty", "↓", "share without a word"),
    "unended": ("unended", "", "share that fills its row to the last token"),
    "bits_per_token": (
        "bits per token",
        "↓",
        "of held-out rows under the model, of sequences by their symbols and end; an upper bound, "
        "but exact of the autoregressive state; "
        "of a self-conditioned model that of two calls at a level, as --self-guidance 1 draws, "
        "and of codes that of noisy moves, as --sampler ddpm-small draws",
    ),
    "bits_per_token_seen": (
        "bits, training rows",
        "≈",
        "the same of rows that the model was trained on: far below, it has learnt rows by heart",
    ),
    "bits_per_row": ("bits per sequence", "↓", "the same of a whole one, with where it ends"),
    "bits_per_token_one_call": (
        "bits, one call",
        "↓",
        "the bound of the same model told no estimate of its own",
    ),
    "bits_per_token_codes": ("of these for the codes", "", "what the codes take the prior"),
    "bits_per_token_surest": (
        "bits, surest codes",
        "↓",
        "the bound with each latent's likeliest code instead of a draw",
    ),
    "bits_per_token_none": ("bits, no codes", "↓", "the bound of the same model told no codes"),
    "information": (
        "information",
        "",
        "bits that codes tell of a sample, summed over latents: 0 of codes that have collapsed",
    ),
    "bits": (
        "bits under the text",
        "≈",
        "per token of samples, by n-grams of the training text; below held-out they repeat what "
        "is frequent",
    ),
    "bits_reverse": (
        "bits of the text",
        "↓",
        "per held-out token, by n-grams of the samples: high where these lack something",
    ),
    "words": ("words", "↑", "share of words of the samples that the training text has"),
    "distinct": ("distinct stretches", "≈", "share of different ones, of so many tokens:"),
    "marginal": ("columns", "↓", "mean total variation of a column from the training rows"),
    "marginal_worst": ("worst column", "↓", "the largest of these"),
    "pair": ("pairs of columns", "↓", "mean total variation of a pair from the training rows"),
    "pair_worst": ("worst pair", "↓", "the largest of these"),
    "dependence": ("dependence", "↓", "mean difference of Cramer's V, over pairs of columns"),
    "dependence_worst": ("worst dependence", "↓", "the largest of these"),
    "classifier": (
        "told apart",
        "≈",
        "how often a classifier tells samples from held-out rows; 0.5 where it cannot",
    ),
    "invalid": ("invalid rows", "↓", "share that has what no column has, or breaks a rule"),
    "closest": ("nearest training row", "≈", "mean share of columns that differ from it"),
    "copies": ("copies", "≈", "share of rows that are training rows; far above held-out: memory"),
    "valid": ("valid", "↑", "share of samples that mean something, as they were drawn"),
    "measured": (
        "measured",
        "",
        "share of valid ones whose true value is known; of others nothing",
    ),
    "value": ("value", "", "mean true value of valid ones, where it is known"),
    "value_top": ("value, the best", "", "mean of the most valuable tenth, of different ones"),
    "value_best": ("value, the very best", "", "the largest true value"),
    "sanitised": ("sanitised", "↑", "share that RDKit takes as drawn, in one piece or several"),
    "valid_corrected": (
        "valid, mended",
        "↑",
        "share that is a molecule once valences are mended and the largest piece is kept",
    ),
    "label": ("QED x SA", "", "mean true QED (10 - SA) / 9 of molecules"),
    "label_top": ("QED x SA, the best", "", "mean of the best 5 %, of different ones"),
    "label_best": ("QED x SA, the very best", "", "the largest"),
    "qed": ("QED", "", "mean drug-likeness"),
    "sa": ("SA", "", "mean synthetic accessibility, 1 (easy) to 10"),
    "above": ("above training", "", "share of all that is worth more than what was trained on"),
    "far": ("far", "≈", "share of different ones less than 0.4 like any trained on (Tanimoto)"),
    "fingerprint_mmd": (
        "fingerprints",
        "↓",
        "squared maximum mean discrepancy from molecules trained on, by Tanimoto's similarity; "
        "0 on average where the laws agree",
    ),
    "unique": ("unique", "↑", "share of different ones among these"),
    "novel": ("novel", "≈", "share of these that training has not; of noise it is 1"),
    "length": ("length", "↓", "distance of the lengths from those of training, in tokens"),
    "kmer": ("stretches", "↓", "total variation from the training ones, of so many tokens:"),
    "tokens": ("tokens", "", "that were judged"),
    "samples_per_second": (
        "samples per second",
        "↑",
        "in batches of up to 250, where this was evaluated",
    ),
    "network_evaluations": (
        "network evaluations",
        "",
        "calls of the network for a sample; each reads a whole row, but autoregressive one token "
        "of it, of each beam by itself: not comparable between the two, as seconds are",
    ),
    "parameters": ("parameters", "", "of the trained model"),
    "prior_parameters": ("parameters of a prior", "", "of codes, which are beside these"),
    "steps": ("updates", "", "of training"),
    "train_seconds": ("time of training", "↓", "in seconds, checkpoints among it"),
    "updates_per_second": (
        "pace of training",
        "↑",
        "updates a second, once it runs: the median over stretches of 50 after the first",
    ),
    "prior_seconds": ("time of the prior's training", "↓", "in seconds"),
    "gpu_gigabytes": ("GPU memory", "↓", "at its peak in training, in units of 10^9 bytes"),
    "peak_gigabytes": (
        "memory",
        "↓",
        "the most that the process held in training on a CPU, libraries and data too, in units of "
        "10^9 bytes",
    ),
}
"""Per metric its title, which direction is better (≈: as of held-out data), and what it says."""


def kind_of(key: str) -> str:
    """The metric of a key: some end with the name of the features, or the kind of the tasks."""
    if key in MEANINGS:
        return key
    return next((kind for kind in _KINDS if key.startswith(f"{kind}_")), key)


def direction(key: str) -> str:
    """Which direction of a metric is better: ↑, ↓, ≈ (as of held-out data), or nothing known.

    Example:
        >>> direction("kid_digits"), direction("parameters")
        ('↓', '')
    """
    return MEANINGS.get(kind_of(key), ("", "", ""))[1]
