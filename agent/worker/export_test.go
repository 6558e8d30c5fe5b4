package worker

// Remembered is the number of rows that the worker keeps something of.
func (w *Worker) Remembered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.memos)
}
