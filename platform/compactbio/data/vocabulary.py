"""Learning a vocabulary from a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from compactbio.data import counter
from compactbio.data.corpus import records
from compactbio.data.files import pieces
from compactbio.data.records import Document
from compactbio.data.whole import whole_folder
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import Corpus

Algorithm = Literal["bpe", "wordpiece"]


def learn_vocabulary(
    corpus: Corpus, folder: Path, *, algorithm: Algorithm, size: int, lowercase: bool, online: bool
) -> int:
    """Learns a tokenizer from the documents that are not held out, and writes it to `folder`. Returns its size.

    `bpe`: byte-level byte-pair encoding with RoBERTa's special tokens (Lewis et al. 2020 learn 50,000).
    `wordpiece`: with BERT's. Raises SpecError where the folder exists or there is no text.
    """
    if folder.exists():
        raise SpecError.at("corpus.tokenizer", f"there is something at {folder} already; name a new folder")
    bert = algorithm == "wordpiece"
    names = _BERT if bert else _ROBERTA
    tokenizer = _wordpiece(lowercase) if bert else _byte_level_bpe(lowercase)
    special = [AddedToken(token, lstrip=name == "mask_token" and not bert) for name, token in names.items()]
    tokenizer.train_from_iterator(_texts(corpus, online), _trainer(bert, size, special))
    tokenizer.post_processor = _template(tokenizer, bert, names["cls_token"], names["sep_token"])
    with whole_folder(folder) as making:
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(making)
    return int(tokenizer.get_vocab_size())


def _trainer(bert: bool, size: int, special: list[AddedToken]) -> trainers.Trainer:
    if bert:
        return trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    return trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def _template(tokenizer: Tokenizer, bert: bool, first: str, last: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1" if bert else f"{first} $A {last} {last} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )


_BERT = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROBERTA = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def _wordpiece(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=_BERT["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _byte_level_bpe(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _texts(corpus: Corpus, online: bool) -> Iterator[str]:
    found = False
    for piece in pieces(corpus, online=online):
        for part in piece.parts:
            for record in records(corpus, part):
                if isinstance(record, Document) and record.text:
                    found = True
                    if not counter.is_held_out(record.identity, corpus.held_out):
                        yield record.text
    if not found:
        raise SpecError.at("corpus.sources", "no text in it")
