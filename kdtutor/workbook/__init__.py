"""What keeps the workbook in order: running and normalising notebooks, the doctor, the budget."""
