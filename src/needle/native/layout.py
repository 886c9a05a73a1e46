"""Where the words of a pool of threads lie, and those of a program that it runs.

`sharing` makes the array of a program, for a number of threads; the code of `pool` reads it::

    a pool                               a program, an array of i64

    what all threads share               a header
    for each thread a record: its        for each piece of a phase a row
    queue, and what it sleeps by         for each stage the number of its last queue that is not
                                         empty, plus 1, then its queues as they are at its beginning
                                         for each chunk the place of its row
"""

from __future__ import annotations

# Pool: byte offsets. Words that several threads write are 128 bytes apart, because neighbouring
# cache lines come together on many processors.
DONE, BUSY, PROGRAM, LIMIT, STOP, IDLE_SPINS, YIELD_SPINS = (0, *range(128, 176, 8))
# Then a record for each thread, its queue first; 64 bytes hold a mutex or a condition everywhere.
RECORDS, RECORD_SIZE = 256, 384
ASLEEP, MUTEX, CONDITION = 128, 192, 256

# Program: words of the header, and of a row. Chunks count through all pieces of the program;
# PROGRAM_PLACES and ROW_NEXT_QUEUES are numbers of words of the program.
(
    PROGRAM_POOL, PROGRAM_THREADS, PROGRAM_CHUNKS, PROGRAM_ARGUMENTS, PROGRAM_ROWS, PROGRAM_PLACES,
    HEADER,
) = range(7)  # fmt: skip
(
    ROW_FUNCTION, ROW_NUMBER, ROW_CHUNKS, ROW_BEGIN, ROW_STAGE_END, ROW_NEXT_QUEUES, ROW_GIVEN,
    ROW_WORDS,
) = range(8)  # fmt: skip

# A queue: next chunk in the high half, end in the low half.
NEXT = 1 << 32
MAX_CHUNKS = 2**31 - 1
