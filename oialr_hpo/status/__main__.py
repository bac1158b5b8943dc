from oialr_hpo.status import main

if __name__ == "__main__":
    main()
