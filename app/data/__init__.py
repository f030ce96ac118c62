"""What the dashboard knows, as pure functions: records to tables. Nothing here imports Streamlit."""
