"""Wrong answers to the assignments' exercises, one module per assignment, and other right ones.

A module defines, for each test cell by its grade_id:

WRONG       {grade_id: {what is wrong, in words: the student's function}}: at least five, each must
fail the hidden part alone RIGHT       {grade_id: [other right functions]}: each must pass the whole
cell LIBRARY     {the student's function name: the library's function with the same arguments, or
None if it has none}"""
