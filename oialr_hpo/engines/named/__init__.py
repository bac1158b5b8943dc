"""The engines by their names: a file for each, whose one public class is an `oialr_hpo.engines.engine.Engine`."""
