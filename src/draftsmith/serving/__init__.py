"""Where the standing configuration is read and switched. A switch is refused if something else serves than what was compared.

base.py      reading and switching what serves
capture.py   the recorder under the path of older versions: servers whose command line names it start as before
local.py     a standing configuration in a JSON file that the server's start script reads
managed/     a served model on this machine: engines as processes behind HAProxy
canary/      canaries: copies of a served deployment, one an arm, for a comparison in the cluster
kubernetes/  the standing configuration of a Kubernetes deployment: read from its arguments, switched by a patch with the old value as its precondition, taken back if the rollout fails
"""
