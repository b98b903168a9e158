"""Release control: who may request, approve and perform a promotion in prod."""
